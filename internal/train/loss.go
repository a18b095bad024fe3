package train

import (
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/losses"
)

// newLoss makes the loss; where loss.pos_weight is auto, its weights come from the training split.
func (r *run) newLoss(classes int) (losses.Loss, error) {
	c := r.cfg.Loss
	if c.PosWeight.Auto && r.ds.Task != data.Multiclass {
		var targets [][]float64
		for _, s := range r.ds.Subset(data.Train) {
			targets = append(targets, s.Target)
		}
		weights, warnings := losses.AutoPosWeight(targets, r.ds.Labels[:classes])
		for _, w := range warnings {
			r.Log.Warn(w)
		}
		r.Log.Info("weights of the positives", "loss.pos_weight", weights)
		c.PosWeight = config.PosWeight{Values: weights}
	}
	return losses.New(c, r.ds.Task, classes)
}
