"""Sparse products and clusters: the door of this layer through which scipy comes in."""
