"""Take an image classifier to production on AWS: commands, the domains behind them, and the core that all of them stand on."""
