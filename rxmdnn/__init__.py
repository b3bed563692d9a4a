"""rxmdnn: neural-network quantum molecular dynamics by spatial decomposition."""

__version__ = "0.1.0"
