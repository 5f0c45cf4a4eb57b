//! What things are called, in English and Chinese.

/// A kind of goods.
pub(super) struct Kind {
    /// Category path.
    pub(super) path: &'static str,
    /// What the products are, English and Chinese.
    pub(super) nouns: &'static [(&'static str, &'static str)],
    /// Median price.
    pub(super) price: f64,
    /// Usual days between two purchases of the same product; 0 for what is seldom bought twice.
    pub(super) gap_days: f64,
    /// Month in which it sells best, if any, from 0.
    pub(super) peak_month: Option<u32>,
}

const fn kind(
    path: &'static str,
    nouns: &'static [(&'static str, &'static str)],
    price: f64,
    gap_days: f64,
    peak_month: Option<u32>,
) -> Kind {
    Kind { path, nouns, price, gap_days, peak_month }
}

/// All kinds of goods.
pub(super) const KINDS: [Kind; 24] = [
    kind("snacks/nuts/almonds", &[("almonds", "巴旦木"), ("almond bites", "杏仁脆")], 38.0, 25.0, Some(0)),
    kind("snacks/nuts/mixed", &[("daily nuts", "每日坚果"), ("mixed nuts", "混合坚果")], 69.0, 30.0, Some(0)),
    kind("snacks/nuts/cashews", &[("cashews", "腰果"), ("salted cashews", "盐焗腰果")], 45.0, 28.0, Some(0)),
    kind("snacks/dried fruit/mango", &[("dried mango", "芒果干")], 22.0, 20.0, None),
    kind("snacks/dried fruit/berries", &[("cranberries", "蔓越莓干"), ("blueberries", "蓝莓干")], 28.0, 26.0, None),
    kind("snacks/meat/beef", &[("beef jerky", "牛肉干"), ("spicy beef", "麻辣牛肉")], 48.0, 35.0, None),
    kind("snacks/meat/duck", &[("duck neck", "鸭脖"), ("duck wings", "鸭翅")], 26.0, 14.0, None),
    kind("snacks/biscuits/cookies", &[("butter cookies", "黄油曲奇")], 32.0, 24.0, Some(11)),
    kind("snacks/biscuits/crackers", &[("rice crackers", "米饼"), ("soda crackers", "苏打饼干")], 15.0, 18.0, None),
    kind(
        "sweets/chocolate/bars",
        &[("dark chocolate", "黑巧克力"), ("milk chocolate", "牛奶巧克力")],
        25.0,
        30.0,
        Some(1),
    ),
    kind("sweets/candy/gummies", &[("fruit gummies", "水果软糖")], 12.0, 22.0, None),
    kind("sweets/gifts/boxes", &[("gift box", "年货礼盒"), ("festival box", "节日礼盒")], 168.0, 0.0, Some(0)),
    kind("drinks/tea/green", &[("green tea", "绿茶"), ("longjing tea", "龙井茶")], 88.0, 60.0, Some(3)),
    kind("drinks/tea/oolong", &[("oolong tea", "乌龙茶")], 78.0, 60.0, None),
    kind("drinks/coffee/beans", &[("coffee beans", "咖啡豆")], 75.0, 28.0, None),
    kind("drinks/coffee/instant", &[("instant coffee", "速溶咖啡"), ("cold brew", "冷萃咖啡")], 42.0, 21.0, None),
    kind("drinks/juice/fresh", &[("orange juice", "橙汁"), ("plum juice", "酸梅汤")], 14.0, 9.0, Some(6)),
    kind("dairy/milk/fresh", &[("fresh milk", "鲜牛奶")], 16.0, 7.0, None),
    kind("dairy/yogurt/plain", &[("yogurt", "酸奶"), ("greek yogurt", "希腊酸奶")], 18.0, 9.0, None),
    kind("breakfast/oats/rolled", &[("oats", "燕麦片"), ("granola", "烤燕麦")], 36.0, 30.0, None),
    kind("baby/food/puree", &[("fruit puree", "果泥")], 19.0, 8.0, None),
    kind("baby/care/diapers", &[("diapers", "纸尿裤")], 99.0, 20.0, None),
    kind("home/paper/tissues", &[("tissues", "抽纸"), ("wet wipes", "湿巾")], 24.0, 30.0, None),
    kind("home/care/soap", &[("hand soap", "洗手液"), ("body wash", "沐浴露")], 33.0, 50.0, None),
];

/// Words before the noun, English and Chinese.
pub(super) const ADJECTIVES: [(&str, &str); 12] = [
    ("classic", "经典"),
    ("roasted", "烘烤"),
    ("organic", "有机"),
    ("sugar-free", "无糖"),
    ("family size", "家庭装"),
    ("mini", "迷你"),
    ("premium", "臻选"),
    ("spicy", "香辣"),
    ("lightly salted", "淡盐"),
    ("limited", "限定"),
    ("original", "原味"),
    ("imported", "进口"),
];

/// Brands, English and Chinese.
pub(super) const BRANDS: [(&str, &str); 30] = [
    ("Hillside", "山丘"),
    ("Orchard Lane", "果园里"),
    ("Redwood", "红杉"),
    ("Lotus", "荷塘"),
    ("Panda Bite", "熊猫口"),
    ("Morning Dew", "晨露"),
    ("Golden Field", "金田"),
    ("Blue Harbor", "蓝港"),
    ("Tea Horse", "茶马"),
    ("Nutcracker", "胡桃夹"),
    ("Little Bear", "小熊"),
    ("Moonlight", "月光"),
    ("Three Gardens", "三园"),
    ("Silk Road", "丝路"),
    ("Northern Star", "北星"),
    ("Southwind", "南风"),
    ("Bamboo", "竹里"),
    ("Cloud Nine", "九云"),
    ("Daily Good", "每日好"),
    ("Farmhouse", "农舍"),
    ("Happy Cow", "开心牛"),
    ("Jade River", "玉河"),
    ("Kite", "风筝"),
    ("Lantern", "灯笼"),
    ("Maple", "枫叶"),
    ("Old Street", "老街"),
    ("Peach Blossom", "桃花"),
    ("Quiet Valley", "静谷"),
    ("Swallow", "燕子"),
    ("White Crane", "白鹤"),
];

/// Cities.
pub(super) const CITIES: [&str; 12] =
    ["武汉", "长沙", "南昌", "成都", "重庆", "郑州", "西安", "上海", "杭州", "广州", "深圳", "北京"];
