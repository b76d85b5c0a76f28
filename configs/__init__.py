"""Configurations that come with the package, one YAML a task: ``alrnn configs`` lists them."""
