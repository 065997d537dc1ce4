"""Furniture that others modelled: libraries of Sweet Home 3D as pieces that stand in homes beside ours."""
