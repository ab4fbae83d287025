"""Tables of the catalog as Apache Iceberg metadata: schemas, manifests and metadata.json, made from event records."""
