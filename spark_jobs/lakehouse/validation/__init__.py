"""Bronze to staged and quarantine: values read by the contract, each rejected row with all its reasons."""
