// Package data turns labelled scans into batches: it reads data set tables, settles which sample
// belongs to which split, and prepares batches of preprocessed volumes in the background.
//
// [Open] reads a table (CSV or TSV), a MedMNIST3D .npz archive or CT-RATE's label table into a
// [Dataset]; [NewLoader] walks the samples of one split epoch by epoch. Everything random is
// drawn from streams keyed by the seed, the epoch and the sample, so the bytes of a batch depend
// neither on the number of workers nor on where a run was resumed.
package data
