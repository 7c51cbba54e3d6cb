# What Longshore uses of jeepney, which has no types of its own.
