"""The command-line programs; installed as `tfplaces.tools`."""
