# name: threads wait, peek, stop, change groups and leave orphans as on Linux while every server fails at once
# Row wait-exit: two waiters chose one zombie, because blocking dropped the lock. The programs are those that
# tests/linux compares with Linux, and what they must print is what they print there.
cd /tmp
tests=/usr/lib/naiad/tests
$tests/strike 5 240 root,vm,blk,tty,tmpfs,ufs,proc,procfs,vfs kill,ud2,load,stack,heap,divide &
killer=$!
work() {
  for program in seed wait_storm wait_threads wait_exit wait_groups wait_orphans; do
    echo "$program:"
    $tests/$program
  done
}
work | tee wanted
while kill -0 $killer 2>/dev/null; do
  work > got
  cmp wanted got || cat got
done
wait $killer
echo "killer: $?"
awk 'NR > 1 && ($2 < 20 || $3 > 0)' /proc/naiad/crashes
