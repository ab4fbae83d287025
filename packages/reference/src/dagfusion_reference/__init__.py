"""The reference code location: assets of two domains over the IO managers of `dagfusion_pipeline`."""
