"""How hard the town is: the constants to edit when recognition is too easy or too hard."""

# How alike the houses of a street are: the chance that a house takes a trait (material, roof, windows, storeys ...)
# from its street instead of drawing its own. Higher is harder.
STYLE_SIMILARITY = 0.8

# How far along the street a camera may be from where it would see its place in the middle, metres, either way.
POSITION_JITTER = 3.0

# Largest heading away from the facades' normal, degrees; day views spread over the range, queries fall anywhere in it.
HEADING_RANGE = 24.0

# Chance that a parking bay is taken, and passers-by in a view (mean of a Poisson draw), for day views and for queries.
PARKED_DAY, PARKED_QUERY = 0.3, 0.65
PEOPLE_DAY, PEOPLE_QUERY = 1.5, 5.0

# Light that remains without lamps at night, as a share of daylight. Lower is harder.
NIGHT_LIGHT = 0.22

# Chance that a window and a shop are lit at dusk, in rain and at night; drawn anew for each image.
LIT_WINDOWS, LIT_SHOPS = 0.4, 0.85

# Standard deviation of the sensor noise, grey levels of 255.
NOISE = {"day": 1.5, "dusk": 3.0, "rain": 3.0, "night": 5.0}

# Random exposure (factor) and colour cast (factor per channel), half range, of every image.
EXPOSURE_JITTER = 0.12
CAST_JITTER = 0.05
