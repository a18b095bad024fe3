package kernels

// ewTable returns the inner loops for the machine's instruction set.
func (m *Machine) ewTable() *ewTable {
	t := ewGenericTable()
	return &t
}
