"""What the stages share: settings, files, gate, registry, bundle, report. Importing it does nothing."""
