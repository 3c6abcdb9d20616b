"""Theory: pure functions of a cloud, its data and its scaling, beside which a simulation can be held."""
