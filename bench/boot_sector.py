"""The smallest guest that there is: 16-bit code that says hello and sleeps until the power button is pressed."""

# fmt: off
PROGRAM = (
    b"\xfa\x31\xc0\x8e\xd8\x8e\xd0\xbc\x00\x7c\xfb"  # cli; ax = ds = ss = 0; the stack is below 0x7c00; sti
    b"\xbe\x80\x7c\xba\xf8\x03"                      # si = 0x7c80, where the text is; dx = COM1
    b"\xac\x84\xc0\x74\x03\xee\xeb\xf8"              # send bytes up to the zero
    b"\xba\x02\x06\xb8\x00\x01\xef"                  # PM1 enable (port 0x602): the power button may signal
    b"\xba\x00\x06"                                  # dx = PM1 status (port 0x600)
    b"\xf4\xed\xf6\xc4\x01\x74\xf9"                  # sleep until a clock tick; pressed? else sleep again
    b"\xba\x04\x06\xb8\x00\x20\xef\xf4"              # PM1 control (port 0x604): soft off
)
# fmt: on
SECTOR = (PROGRAM.ljust(0x80, b"\xf4") + b"hello\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
DISK = SECTOR.ljust(1 << 20, b"\0")
