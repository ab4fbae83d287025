"""`dagfusion cost`: what the objects of a catalog and the requests for them cost, by a dated table of prices."""
