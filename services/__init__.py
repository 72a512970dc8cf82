"""The services: independent processes that meet only on the bus and in the store."""
