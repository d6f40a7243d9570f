# name: halt ends the machine in order, and nothing after it runs
# expect-status: 0
echo before
halt -f
sleep 5
echo after
