"""Configuration: read and validated once, typed from there on."""
