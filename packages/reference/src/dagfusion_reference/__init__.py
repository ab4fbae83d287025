"""The reference code location: six assets of two domains over the IO managers of `dagfusion_pipeline`."""
