# Draws a frame, as a picture that every browser shows: frame, output, width, height.
set -eu
frame=$1 output=$2 width=$3 height=$4
radius=$((height / 8))
x=$((radius + (width - 2 * radius) * (frame - 1) / 8))
cat >"$output" <<END
<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$height">
  <rect width="$width" height="$height" fill="#10151c"/>
  <circle cx="$x" cy="$((height / 2))" r="$radius" fill="#ff9f1c"/>
  <text x="12" y="$((height - 12))" fill="#8899aa" font-family="sans-serif">frame $frame</text>
</svg>
END
echo "frame $frame is drawn"
