"""The four steps of the dock, one widget each; they meet in the workspace only."""
