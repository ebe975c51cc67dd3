"""Reports: a trained model's plots and page, the capacity chart, and the demo's summary."""
