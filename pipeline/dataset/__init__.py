"""The dataset pass: every picture of a data set through the network once, for statistics of every unit."""
