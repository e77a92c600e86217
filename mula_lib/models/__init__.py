"""Networks: encoders, interactions between the two branches, and the staged joint model. Knows no data set."""
