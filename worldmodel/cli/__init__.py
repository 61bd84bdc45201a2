"""The command `worldmodel`: each subcommand is a module with a config and a `main`."""
