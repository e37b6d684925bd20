"""Who may call the gateway: keys, and what each reaches."""
