# name: a pipeline of three programs passes its bytes on in order
seq 1 2000 | tail -n 3 | tr '\n' '.'
echo
