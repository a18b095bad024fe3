package train

import (
	"slices"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// publicClasses is the number of outputs where the configuration names no labels: CT-RATE's findings.
const publicClasses = 18

// parts makes the network and the loss that c describes. Labels that only the data set knows count as many.
func parts(c *config.Config) (*models.Network, losses.Loss, error) {
	classes := Outputs(c.Data.Task, c.Data.Labels)
	if classes == 0 {
		classes = publicClasses
	}
	net, err := models.ForInput(c.Model, c.Preprocess, classes)
	if err != nil {
		return nil, nil, exitcode.Wrap(exitcode.Usage, err)
	}
	settings := c.Loss
	if settings.PosWeight.Auto { // the weights are the training split's, which is not read here
		settings.PosWeight = config.PosWeight{Values: slices.Repeat([]float64{1}, classes)}
	}
	loss, err := losses.New(settings, c.Data.Task, classes)
	return net, loss, exitcode.Wrap(exitcode.Usage, err)
}

// Check finds what is wrong with a configuration beyond its keys: options of the architecture, and a volume
// or batch that the network cannot take. It takes no memory and reads no data.
func Check(c *config.Config) error {
	net, loss, err := parts(c)
	if err != nil {
		return err
	}
	frozen, err := freeze(c, net)
	if err != nil {
		return err
	}
	dev := cpu.New(1)
	defer dev.Close()
	_, err = session.Compile(dev, session.Options{
		Network: net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: EvalBatch(c),
		Training: &session.Training{
			Loss: loss, BatchSizes: []int{c.Train.BatchSize}, Accumulate: c.Train.Accumulate > 1, Optimizer: optimizer(c.Train, net), Frozen: frozen,
		},
	})
	return exitcode.Wrap(exitcode.Usage, err)
}
