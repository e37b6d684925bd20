"""The OpenAPI document of the routes, with the limits that the handlers use."""
