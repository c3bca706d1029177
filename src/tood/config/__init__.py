"""Configuration: YAML files read and validated once into typed, immutable objects."""
