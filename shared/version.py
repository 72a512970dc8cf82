"""The version of the product, in the one place that packaging reads too. Pure."""

VERSION = "0.1.0"
