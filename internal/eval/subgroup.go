package eval

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// maxGroups is the number of different values up to which a column makes groups of them.
const maxGroups = 20

// Column is a column of the data set's table.
type Column struct {
	Name  string
	Cells []string // [n], of the cases
	All   []string // the different cells of the whole table
}

// Subgroup is the evaluation of the cases with one value in a column, or with one range of numbers.
type Subgroup struct {
	Column string `json:"column"`
	Value  string `json:"value"`
	*Report
}

// Subgroups evaluates the groups that a column makes: one a value, also where the cases have none of it, or for a column
// of more than 20 different numbers a quarter of the cases each.
func Subgroups(c *Cases, o Options, column Column) ([]Subgroup, error) {
	groups, err := column.groups()
	if err != nil {
		return nil, err
	}
	var out []Subgroup
	for _, g := range groups {
		var index []int
		for i, cell := range column.Cells {
			if g.has(cell) {
				index = append(index, i)
			}
		}
		r, err := Analyze(c.Subset(index), o)
		if err != nil {
			return nil, err
		}
		for k := range r.Labels { // what would be too much here
			r.Labels[k].Reliability = nil
		}
		out = append(out, Subgroup{column.Name, g.name, r})
	}
	return out, nil
}

type group struct {
	name string
	has  func(cell string) bool
}

func (c Column) groups() ([]group, error) {
	if len(c.All) > maxGroups {
		return c.quarters()
	}
	var out []group
	for _, value := range c.All {
		name := value
		if name == "" {
			name = "(empty)"
		}
		out = append(out, group{name, func(cell string) bool { return cell == value }})
	}
	slices.SortStableFunc(out, func(a, b group) int { // numbers as such
		x, errX := strconv.ParseFloat(a.name, 64)
		y, errY := strconv.ParseFloat(b.name, 64)
		if errX != nil || errY != nil || x == y {
			return 0
		}
		return int(math.Copysign(1, x-y))
	})
	return out, nil
}

// quarters divides numbers at the quartiles of the cases.
func (c Column) quarters() ([]group, error) {
	var numbers []float64
	empty := false
	for _, cell := range c.All {
		if _, err := strconv.ParseFloat(cell, 64); err != nil && cell != "" {
			return nil, fmt.Errorf("the column %q holds %d different texts, too many for subgroups: at most %d, or numbers", c.Name, len(c.All), maxGroups)
		}
		empty = empty || cell == ""
	}
	for _, cell := range c.Cells {
		if x, err := strconv.ParseFloat(cell, 64); err == nil {
			numbers = append(numbers, x)
		}
	}
	slices.Sort(numbers)
	var cuts []float64
	for q := 1; q < 4 && len(numbers) > 0; q++ {
		if cut := numbers[(len(numbers)-1)*q/4]; len(cuts) == 0 || cut > cuts[len(cuts)-1] {
			cuts = append(cuts, cut)
		}
	}
	var out []group
	for i := range len(cuts) + 1 {
		low, high := math.Inf(-1), math.Inf(1)
		var name string
		switch {
		case len(cuts) == 0:
			name = "all"
		case i == 0:
			high, name = cuts[0], fmt.Sprintf("up to %v", cuts[0])
		case i == len(cuts):
			low, name = cuts[i-1], fmt.Sprintf("above %v", cuts[i-1])
		default:
			low, high, name = cuts[i-1], cuts[i], fmt.Sprintf("above %v, up to %v", cuts[i-1], cuts[i])
		}
		out = append(out, group{name, func(cell string) bool {
			x, err := strconv.ParseFloat(cell, 64)
			return err == nil && x > low && x <= high
		}})
	}
	if empty {
		out = append(out, group{"(empty)", func(cell string) bool { return cell == "" }})
	}
	return out, nil
}
