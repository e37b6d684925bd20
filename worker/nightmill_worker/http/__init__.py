"""HTTP/1.1 to one endpoint: connections that are kept, and the answers on them."""
