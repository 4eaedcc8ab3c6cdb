int area = 3;
