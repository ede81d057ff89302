"""The answers of the API, as its OpenAPI document shows them."""
