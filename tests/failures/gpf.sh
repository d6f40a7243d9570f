# name: a fault of any kind in any server under load is a restart, and its service is back
# Row gpf: a general protection fault stopped the machine. Here each server runs into each fault at some instruction
# of its own; a fault that nobody put there would be in the last column of the table.
cd /tmp
work() {
  seq 1 200 | sort -r | md5sum
  head -c 300000 /bin/busybox | md5sum
  echo one two | tr a-z A-Z > file && cat file && rm file
  ls /proc/naiad | wc -l
}
wanted=$(work)
mkdir load && (cd load && while :; do work; done > /dev/null) &
load=$!
seed=0
for fault in ud2 load divide stack heap; do
  for server in root vm blk tty tmpfs ufs proc procfs vfs; do
    seed=$((seed + 1))
    /usr/lib/naiad/tests/strike $seed 1 $server $fault || echo "$server cannot be struck by $fault"
    got=$(work)
    [ "$got" = "$wanted" ] || echo "$fault in $server: $got"
  done
  echo "$fault: every server is back"
done
kill $load
awk 'NR > 1 { print $1, ($2 >= 5 ? "died" : "lives"), $3 }' /proc/naiad/crashes
