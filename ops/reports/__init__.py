"""Reports that people look at: a trained model's plots and page, and the demo's summary."""
