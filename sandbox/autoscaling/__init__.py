"""Application Auto Scaling: scalable targets, target tracking, scheduled actions and scaling activities."""
