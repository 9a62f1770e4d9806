"""The paper's figures, redone by command: one file a figure, each with what it measures, draws and says."""
