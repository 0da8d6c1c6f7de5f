#version 3.7;
global_settings { assumed_gamma 1 }
#declare Turn = clock * 12;
camera {
  location <0, 2.2, -6>
  right x * image_width / image_height
  look_at <0, 0.6, 0>
  angle 45
}
light_source { <4, 8, -6> color rgb 1.2 area_light <1, 0, 0>, <0, 0, 1>, 3, 3 }
background { color rgb <0.55, 0.7, 0.9> }
plane { y, 0 pigment { checker color rgb 0.85 color rgb 0.35 } finish { reflection 0.08 } }
union {
  sphere { <1.6, 0.5, 0>, 0.5 pigment { color rgb <0.9, 0.25, 0.2> } }
  sphere { <-1.6, 0.5, 0>, 0.5 pigment { color rgb <0.2, 0.45, 0.9> } }
  torus { 1.6, 0.06 translate y * 0.5 pigment { color rgb <0.95, 0.8, 0.3> } finish { specular 0.8 } }
  rotate y * Turn
}
sphere { <0, 0.9, 0>, 0.6 pigment { color rgb 0.95 } finish { reflection 0.35 specular 0.6 } }
