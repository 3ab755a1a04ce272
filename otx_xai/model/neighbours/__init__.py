"""What exporters write about a model, into its file or beside it: one file an exporter."""
