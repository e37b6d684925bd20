"""What the gateway answers: errors in the API's envelope, and JSON."""
