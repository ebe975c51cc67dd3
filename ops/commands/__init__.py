"""Every Invoke task, one module a namespace or topic. A task parses its flags, calls a domain and returns a Result."""
