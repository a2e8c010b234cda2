"""The antenna: a reader thread that ends in one value per presentation."""
