package config

// keyDoc documents one key or section: what it means, its unit, and which values are allowed.
type keyDoc struct {
	key  string // dotted
	doc  string
	unit string
	rule *rule // nil: every value of the key's type
}

// keyDocs is the one place where keys are documented. The JSON schema, `ctclass config explain` and the
// messages about wrong values are made from it; types and defaults come from Config and Default. A test
// checks that it names every key of Config, and no other.
func keyDocs() []keyDoc {
	return []keyDoc{
		{key: "model", doc: "The architecture."},
		{key: "model.name", doc: "Architecture to build; `ctclass models` lists them."},
		{key: "model.use_checkpointing", doc: "Recompute forward values in the backward pass instead of keeping them: less memory, more time, the same gradients. null leaves it to the architecture."},
		{key: "model.memory_efficient", doc: "Recompute the cheap parts of a DenseNet layer instead of keeping them. null leaves it to the architecture."},
		{key: "model.dropout", doc: "Dropout in the classification head. null leaves it to the architecture.", rule: within(0, 1, true, false)},
		{key: "model.options", doc: "Options of the architecture itself; `ctclass models` lists them. null, for all or for one of them, takes back what an included file set."},
		{key: "model.pretrained", doc: "Weights to start from: a model file, .safetensors or .pth. The head starts afresh where classes or form differ, which is reported; everything else must fit. Empty: start afresh."},
		{key: "model.pretrained_inflate", doc: "Spread the 2D kernels of model.pretrained evenly over the third axis."},
		{key: "model.pretrained_interpolate", doc: "Interpolate a vision transformer's positions where model.pretrained is for another volume size."},
		{key: "model.pretrained_shape_dhw", doc: "That volume size along d, h, w, for files that do not say it. Zeros: the file says it, or it was a cube.", unit: "voxels", rule: each(whole(0, 4096), false)},

		{key: "data", doc: "The labelled scans."},
		{key: "data.format", doc: "Kind of table; auto looks at the file: .npz is medmnist, a CSV with a VolumeName column is ctrate, any other CSV or TSV is a table.", rule: oneOf("auto", "table", "medmnist", "ctrate")},
		{key: "data.table", doc: "CSV or TSV with one scan a row, a MedMNIST3D .npz, or CT-RATE's label CSV. A relative path starts from the working folder."},
		{key: "data.root", doc: "Folder that relative scan paths in the table start from. Empty: the folder of the table."},
		{key: "data.metadata", doc: "CT-RATE's metadata CSV, for its first NIfTI files, whose values are not rescaled: slope, intercept and spacing by VolumeName (columns RescaleSlope, RescaleIntercept, XYSpacing, ZSpacing). Leave it empty for CT-RATE v2, whose files are in HU already."},
		{key: "data.task", doc: "binary: one yes/no label; multilabel: several independent yes/no labels; multiclass: one class out of several.", rule: oneOf("binary", "multilabel", "multiclass")},
		{key: "data.labels", doc: "Label columns of the table (binary: exactly one). multiclass: the class names, in the order of the outputs. MedMNIST3D and CT-RATE bring their own when this is empty.", rule: each(notEmpty(), true)},
		{key: "data.label_column", doc: "multiclass: the column that holds the class name, or its index counted from 0."},
		{key: "data.path_column", doc: "Column that holds the path of the scan.", rule: notEmpty()},
		{key: "data.group_column", doc: "Column that names the patient. No patient may be in two splits. Empty: every scan is a patient of its own."},
		{key: "data.split_column", doc: "Column that holds the split of each scan (train, val, test). Empty: a validation split is drawn by val_fraction."},
		{key: "data.split_file", doc: "CSV with the split of each scan that `ctclass split` has written. It is used instead of data.split_column, data.val_fraction and the splits that MedMNIST3D and CT-RATE bring. Empty: none."},
		{key: "data.fold", doc: "Of a data.split_file with folds: the fold for validation, counted from 1; the others are for training. 0: the file has no folds.", rule: whole(0, 1000)},
		{key: "data.val_fraction", doc: "Share of the patients drawn for validation when the table has no splits.", rule: within(0, 1, false, false)},
		{key: "data.flip", doc: "Axes that are flipped at random in training, each with probability 1/2.", rule: each(oneOf("d", "h", "w"), true)},
		{key: "data.workers", doc: "Background workers that read and prepare scans. 0: as many as threads.", rule: whole(0, 4096)},
		{key: "data.on_error", doc: "What to do with a scan that cannot be read: stop, or skip it with a warning.", rule: oneOf("stop", "skip")},
		{key: "data.strict", doc: "Treat a scan with a warning (gaps between slices, doubtful geometry) as one that cannot be read."},
		{key: "data.cache", doc: "Preprocessed scans on disk, for later epochs, runs and other processes; see `ctclass cache`."},
		{key: "data.cache.dir", doc: "Folder of the cache; several runs and processes may share it. Empty: none."},
		{key: "data.cache.size", doc: "Upper limit of the cache, such as 50GiB. What was not used for longest goes first, never what the run itself uses. Empty: no limit.", rule: byteSize()},
		{key: "data.cache.storage", doc: "How voxels are kept, and rounded wherever they come from. int16: 65536 even steps over the range of the scan's values, an error of at most 1/131070 of it (0.011 HU of a window of 1400 HU). float16: a relative error of at most 1/2048. float32: exact, and the largest.", rule: oneOf("int16", "float16", "float32")},

		{key: "preprocess", doc: "From a scan to the input of the network. The model file carries these settings."},
		{key: "preprocess.orientation", doc: "LPS: d grows towards the head, h to posterior, w to the patient's left. stored: keep the order of the file.", rule: oneOf("LPS", "stored")},
		{key: "preprocess.spacing_mm", doc: "Distance of neighbouring voxels along d, h, w that scans are resampled to. keep: do not resample.", unit: "mm", rule: spacingRule()},
		{key: "preprocess.intensity", doc: "window: clip to hu_window and map to scale_to. raw: use the stored values.", rule: oneOf("window", "raw")},
		{key: "preprocess.hu_window", doc: "Lower and upper end of the intensity window.", unit: "HU", rule: ascending()},
		{key: "preprocess.scale_to", doc: "Values that the lower and upper end of the window are mapped to.", rule: ascending()},
		{key: "preprocess.shape_dhw", doc: "Size of the network's input along d, h, w.", unit: "voxels", rule: each(whole(1, 4096), false)},
		{key: "preprocess.fit", doc: "How a scan gets that size. resize: interpolate the whole field of view. crop_pad: cut or pad around the centre, spacing unchanged.", rule: oneOf("resize", "crop_pad")},
		{key: "preprocess.hu_windows", doc: "Several windows, each a channel of the network's input, in place of hu_window: [[-1000, 400], [-160, 240], [-450, 1050]] for lung, soft tissue and bone. The network takes that many input channels by itself.", unit: "HU", rule: each(ascending(), true)},
		{key: "preprocess.interpolation", doc: "linear: trilinear. nearest: the nearest voxel, for masks and label maps.", rule: oneOf("linear", "nearest")},
		{key: "preprocess.antialias", doc: "Filter of an axis that shrinks by factor f. triangle: the linear kernel stretched by f, as PyTorch's antialias=True. gaussian: a Gaussian of sigma (f-1)/2 voxels before, as scikit-image and MONAI's anti_aliasing=True. none: plain trilinear interpolation.", rule: oneOf("triangle", "gaussian", "none")},
		{key: "preprocess.crop", doc: "body: cut the scan to the box of the patient (the largest part above -500 HU, without the table) before it is fitted to the shape.", rule: oneOf("none", "body")},
		{key: "preprocess.crop_margin_mm", doc: "What crop body leaves around the patient.", unit: "mm", rule: atLeast(0)},
		{key: "preprocess.recipe", doc: "standard: as the other keys say. ct_rate_classifier: as the public CT-RATE_classifier weights were trained: spacing corner to corner, window, then area pooling to the shape, whose first size runs along the patient's right-left axis (configs/ct_rate_classifier.yaml).", rule: oneOf("standard", "ct_rate_classifier")},

		{key: "loss", doc: "The training loss."},
		{key: "loss.name", doc: "Loss to minimise."},
		{key: "loss.alpha", doc: "Focal loss: weight of the whole loss.", rule: above(0)},
		{key: "loss.gamma", doc: "Focal loss: how strongly easy samples are discounted; 0 is plain cross-entropy.", rule: zeroOrFrom(1)},
		{key: "loss.gamma_pos", doc: "Asymmetric loss: discount of easy positives.", rule: zeroOrFrom(1)},
		{key: "loss.gamma_neg", doc: "Asymmetric loss: discount of easy negatives.", rule: zeroOrFrom(1)},
		{key: "loss.clip", doc: "Asymmetric loss: negatives below this probability cost nothing.", rule: within(0, 1, true, false)},
		{key: "loss.pos_weight", doc: "bce: weight of the positive samples, one number a label. auto: negatives over positives of each label in the training split, at most 20; 1 for a label that has only one of them. Empty: 1.", rule: posWeightRule()},
		{key: "loss.class_weight", doc: "multiclass: weight of each class, one number a class. Empty: 1.", rule: each(above(0), false)},
		{key: "loss.label_smoothing", doc: "Share of the target spread evenly over the classes.", rule: within(0, 1, true, false)},
		{key: "loss.reduction", doc: "mean: sum over the valid labels divided by their number in the global batch. sum: the plain sum.", rule: oneOf("mean", "sum")},

		{key: "train", doc: "The training loop."},
		{key: "train.epochs", doc: "Passes over the training split.", rule: whole(1, 1_000_000)},
		{key: "train.batch_size", doc: "Scans in one forward pass (micro-batch).", rule: whole(1, 65536)},
		{key: "train.accumulate", doc: "Micro-batches whose gradients make one optimiser step.", rule: whole(1, 65536)},
		{key: "train.drop_last", doc: "Leave out the incomplete last batch of an epoch."},
		{key: "train.sampler", doc: "How an epoch draws its scans, as many as there are. shuffle: each once. balanced: at random with replacement, each class equally often on average (multilabel: the classes are the positives of each label and the scans without any; a scan counts by its rarest one). class_aware: the classes in turn, the scans of each class one after the other in a new order. A scan drawn again is augmented anew; one without any label is not drawn.", rule: oneOf("shuffle", "balanced", "class_aware")},
		{key: "train.mixup", doc: "Each scan is blended with the next one of its batch, and their losses too, by a share drawn from Beta(mixup, mixup). 0: off.", rule: within(0, 100, true, true)},
		{key: "train.seed", doc: "Seed of initial weights, shuffling, dropout and augmentation. Equal seeds give equal model files."},
		{key: "train.threads", doc: "Worker threads of the numeric kernels. 0: all cores. The result does not depend on it.", rule: whole(0, 4096)},
		{key: "train.optimizer", doc: "The optimiser."},
		{key: "train.optimizer.name", doc: "adamw: Adam with decoupled weight decay. sgd: gradient descent with Nesterov's momentum. lion: the sign of an interpolated momentum, with decoupled weight decay; it wants a third to a tenth of AdamW's lr and as much more weight_decay.", rule: oneOf("adamw", "sgd", "lion")},
		{key: "train.optimizer.lr", doc: "Learning rate; with a schedule, its highest value.", rule: above(0)},
		{key: "train.optimizer.betas", doc: "adamw: decay of the running means of the gradient and of its square. lion: share of the momentum in the step, and its decay; its authors use [0.9, 0.99].", rule: each(within(0, 1, true, false), false)},
		{key: "train.optimizer.momentum", doc: "sgd: decay of the momentum.", rule: within(0, 1, true, false)},
		{key: "train.optimizer.eps", doc: "adamw: added to the root of the second moment.", rule: above(0)},
		{key: "train.optimizer.weight_decay", doc: "Weight decay: each step multiplies by 1 - lr*weight_decay; sgd adds weight_decay times the weight to the gradient instead.", rule: atLeast(0)},
		{key: "train.optimizer.decay_on", doc: "matrices: decay only matrices and convolution kernels. all: decay every parameter.", rule: oneOf("matrices", "all")},
		{key: "train.layer_decay", doc: "Fine-tuning: each layer below the head learns at this times the rate of the layer above it. Layers are the stem, the four stages or dense blocks and the head; of a vision transformer the embeddings, each block and the head with the last norm. 1: all learn at the same rate.", rule: within(0, 1, false, true)},
		{key: "train.schedule", doc: "The learning rate over the optimiser steps."},
		{key: "train.schedule.name", doc: "constant; cosine: half a cosine from lr down to min_lr; one_cycle: up to lr, then far down; multistep: times factor after each of milestones; plateau: times factor when the monitored metric no longer improves.", rule: oneOf("constant", "cosine", "one_cycle", "multistep", "plateau")},
		{key: "train.schedule.warmup_steps", doc: "All but one_cycle: optimiser steps of linear warm-up.", unit: "steps", rule: whole(0, 1_000_000_000)},
		{key: "train.schedule.min_lr", doc: "cosine: learning rate at the end. plateau: the lowest rate.", rule: atLeast(0)},
		{key: "train.schedule.pct_start", doc: "one_cycle: share of the steps in which the rate rises.", rule: within(0, 1, false, false)},
		{key: "train.schedule.div_factor", doc: "one_cycle: the first rate is lr/div_factor.", rule: atLeast(1)},
		{key: "train.schedule.final_div_factor", doc: "one_cycle: the last rate is the first one divided by this.", rule: atLeast(1)},
		{key: "train.schedule.milestones", doc: "multistep: epochs after which the rate falls.", unit: "epochs", rule: each(whole(1, 1_000_000), true)},
		{key: "train.schedule.factor", doc: "multistep and plateau: what the rate is multiplied by when it falls.", rule: within(0, 1, false, false)},
		{key: "train.schedule.patience", doc: "plateau: validations without improvement that are waited for; the next one lowers the rate.", unit: "validations", rule: whole(0, 1_000_000)},
		{key: "train.schedule.threshold", doc: "plateau: smallest relative change of the metric that counts as an improvement.", rule: within(0, 1, true, false)},
		{key: "train.schedule.cooldown", doc: "plateau: validations after a fall that are not counted.", unit: "validations", rule: whole(0, 1_000_000)},
		{key: "train.clip_norm", doc: "Scale gradients down to this global L2 norm. 0: off.", rule: atLeast(0)},
		{key: "train.ema", doc: "Decay of an exponential moving average of the weights, such as 0.999, which validation, the best and the last model use in place of the weights; in step n at most (1+n)/(10+n). Running statistics are those of the training. 0: off.", rule: within(0, 1, true, false)},
		{key: "train.on_nan", doc: "What to do when the loss or a gradient is NaN or infinite. stop: end with the scans of the step and the layer where it began. skip: leave the step out, which is counted in history.jsonl; all gradients stay in memory until they are checked, as with clip_norm.", rule: oneOf("stop", "skip")},
		{key: "train.early_stop", doc: "Ending the training when the monitored metric no longer improves."},
		{key: "train.early_stop.patience", doc: "Validations without improvement before training ends. 0: never end early.", unit: "validations", rule: whole(0, 1_000_000)},
		{key: "train.early_stop.min_delta", doc: "Smallest change of the metric that counts as an improvement.", rule: atLeast(0)},
		{key: "train.monitor", doc: "Validation metric that picks the best model, and that early_stop and the plateau schedule watch: loss, or a metric of `ctclass eval` (the mean over the labels).", rule: notEmpty()},
		{key: "train.validate_every", doc: "Epochs from one validation to the next.", unit: "epochs", rule: whole(1, 1_000_000)},
		{key: "train.save_every_minutes", doc: "Longest time between two saved states of the run, from which --resume continues. 0: at the end of each epoch only.", unit: "minutes", rule: atLeast(0)},
		{key: "train.freeze", doc: "Parameters that are not trained, as patterns of their names (layer1.*); * stands for any text. A batch norm whose weight and bias are frozen keeps its running statistics and normalises by them; dropout goes on.", rule: each(notEmpty(), true)},

		{key: "memory", doc: "How much memory a run may use."},
		{key: "memory.budget", doc: "Upper limit of the memory of the whole process, such as 8GiB, 50% of what is available, or auto, most of it. When a training step takes more, it recomputes what costs least until it fits; the result has the same bits. none: no limit.", rule: memoryBudget()},

		{key: "eval", doc: "Evaluation of a trained model."},
		{key: "eval.split", doc: "Split that `ctclass eval` uses.", rule: notEmpty()},
		{key: "eval.batch_size", doc: "Scans in one forward pass. 0: train.batch_size. The result does not depend on it.", rule: whole(0, 65536)},
		{key: "eval.threshold", doc: "Probability from which a label counts as present, for F1, accuracy, sensitivity and specificity, where the model has no operating point for it.", rule: within(0, 1, false, false)},
		{key: "eval.flip", doc: "Test-time augmentation: the logits are the mean over the scan as it is and flipped along every combination of these axes. Each axis doubles the time.", rule: each(oneOf("d", "h", "w"), true)},
		{key: "eval.ensemble", doc: "How several models answer together: by the mean of their probabilities, or of their logits.", rule: oneOf("probabilities", "logits")},
		{key: "eval.resamples", doc: "Resamples of the patients behind the confidence intervals, drawn from train.seed. 0: no such intervals.", rule: whole(0, 1_000_000)},
		{key: "eval.subgroups", doc: "Columns of the table; the metrics are given for each of their values too, or for quarters of the scans where a column holds many numbers.", rule: each(notEmpty(), true)},
		{key: "eval.calibration", doc: "Calibration of the probabilities that is fitted on the validation split at the end of training and goes into the model file; `ctclass calibrate` does the same later.", rule: oneOf("none", "temperature", "isotonic")},
		{key: "eval.operating_points", doc: "Thresholds that are chosen for each label on the validation split at the end of training and go into the model file. The first one decides.", rule: each(operatingPoint(), true)},

		{key: "output", doc: "What a run leaves behind."},
		{key: "output.dir", doc: "Run folder. A relative path starts from the working folder.", rule: notEmpty()},
		{key: "output.save", doc: "Model that `ctclass eval` and `ctclass predict` take from a run folder: of the best epoch by train.monitor, or of the last.", rule: oneOf("best", "last")},
		{key: "output.tensorboard", doc: "Write event files for TensorBoard into the folder tensorboard of the run folder."},
		{key: "output.mlflow", doc: "An MLflow tracking server that is told about the run. Passwords are taken from the environment: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."},
		{key: "output.mlflow.uri", doc: "Address of the server, such as http://localhost:5000. Empty: none."},
		{key: "output.mlflow.experiment", doc: "Experiment that the run belongs to; it is made where there is none.", rule: notEmpty()},
		{key: "output.mlflow.run_name", doc: "Name of the run. Empty: the name of the run folder."},
	}
}

// Default returns the configuration that holds where a file says nothing.
func Default() Config {
	return Config{
		Model: Model{Name: "resnet18_3d"},
		Data: Data{
			Format: "auto", Task: "binary", PathColumn: "path", ValFraction: 0.2, OnError: "stop",
			Cache: Cache{Storage: "int16"},
		},
		Preprocess: Preprocess{
			Orientation: "LPS",
			SpacingMM:   Spacing{Keep: true},
			Intensity:   "window",
			HUWindow:    [2]float64{-1000, 400},
			ScaleTo:     [2]float64{0, 1},
			ShapeDHW:    [3]int{64, 128, 128},
			Fit:         "resize",

			Interpolation: "linear", Antialias: "triangle", Crop: "none", CropMarginMM: 10, Recipe: "standard",
		},
		Loss: Loss{Name: "focal", Alpha: 1, Gamma: 2, GammaPos: 1, GammaNeg: 4, Clip: 0.05, Reduction: "mean"},
		Train: Train{
			Epochs: 10, BatchSize: 4, Accumulate: 1, DropLast: true, Sampler: "shuffle", Seed: 1,
			Optimizer: Optimizer{
				Name: "adamw", LR: 1e-3, Betas: [2]float64{0.9, 0.999}, Momentum: 0.9, Eps: 1e-8, WeightDecay: 0.01, DecayOn: "matrices",
			},
			LayerDecay: 1,
			Schedule: Schedule{
				Name: "cosine", PctStart: 0.3, DivFactor: 25, FinalDiv: 1e4, Factor: 0.1, Patience: 5, Threshold: 1e-4,
			},
			OnNaN:         "stop",
			Monitor:       "auroc",
			ValidateEvery: 1,
			SaveMinutes:   10,
		},
		Memory: Memory{Budget: "auto"},
		Eval:   Eval{Split: "test", Threshold: 0.5, Ensemble: "probabilities", Resamples: 2000, Calibration: "none"},
		Output: Output{Dir: "run", Save: "best", TensorBoard: true, MLflow: MLflow{Experiment: "ctclass"}},
	}
}
