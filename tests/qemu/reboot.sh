# name: reboot ends the machine in order, and nothing after it runs
# expect-status: 0
echo before
reboot -f
sleep 5
echo after
