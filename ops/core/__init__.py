"""What every domain stands on: settings, errors, output, tasks, plans, prices, AWS, SSH and files."""
