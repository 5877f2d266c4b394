"""How the miniature backbones in training/miniatures were pre-trained."""
