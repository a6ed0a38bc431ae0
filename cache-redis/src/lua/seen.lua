-- What follows, if the key still holds the value that was seen, else nothing at all  ARGV[6]: its stamp, or none
local st,stamp=look(KEYS[2])
local held=st=='V' or st=='N'
if st=='T' or held~=(ARGV[6]~=NONE) or (held and stamp~=ARGV[6]) then return {'0',2,0} end
