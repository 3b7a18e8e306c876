"""Small ARFF files, dense and sparse, as MULAN and MEKA write them."""

DENSE = """% a comment
@relation 'tiny: -C -2'

@attribute weight numeric
@attribute 'a length' REAL
@attribute red {0,1}
@ATTRIBUTE 'a tag' {0, 1}

@data
0.5,-2e1,1,0
% another
1,3,0,1
"""
SPARSE = """@relation words
@attribute 0; {0,1}
@attribute a {0,1}
@attribute b {0,1}
@attribute TAG_x {0,1}
@DATA
{0 1,3 1}
{}
{ 1 1, 2 1 }
"""
