"""The modules that every domain builds on: settings, errors, output, tasks, plans, prices, AWS, SSH and files."""
