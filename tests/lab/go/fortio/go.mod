module kindmesh.lab/fortio

go 1.23.3
