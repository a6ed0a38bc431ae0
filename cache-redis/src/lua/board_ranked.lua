-- RANKED  ARGV: order, how many to leave out, how many
return range(ARGV[2],ARGV[2]+ARGV[3]-1)
